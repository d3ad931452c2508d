from starlette.routing import BaseRoute

from embedded.identity import Identity


class AuthService:
    def __init__(self, dsn: str, identity: Identity) -> None: ...
    def routes(self) -> list[BaseRoute]:
        return []

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
