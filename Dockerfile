# One image, two commands: the API (default) and the worker (`python worker.py`).
FROM python:3.11.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --system --uid 10001 --create-home vitrine
WORKDIR /app

# Before the code, so that a change of code does not install everything anew.
COPY requirements.txt ./
RUN pip install --require-hashes -r requirements.txt

COPY ai_clients.py bell.py breaker.py byte_budget.py config.py database.py domain.py errors.py estimates.py limits.py \
     logging_config.py main.py maintenance.py model_wrappers.py pictures.py pipeline.py planning.py provider_gate.py \
     shop_records.py storage.py supabase_client.py supabase_rpc.py transport.py worker.py ./
COPY packs/ packs/
COPY picture_formats/ picture_formats/
COPY providers/ providers/
COPY recipes/ recipes/
COPY routes/ routes/

USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000", "--no-access-log"]
