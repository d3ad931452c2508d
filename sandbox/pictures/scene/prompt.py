"""Reading a prompt: English words in, a `Scene` out. What is not understood leaves a neutral studio."""

import re
from dataclasses import dataclass, field

from sandbox.pictures.colour_names import Rgb, colour_of, is_modifier
from sandbox.pictures.scene import words
from sandbox.pictures.scene.description import Light, Scene, Support
from sandbox.pictures.scene.materials import NATURAL_COLOURS, Material

_TOKEN = re.compile(r"#[0-9a-f]{6}\b|#[0-9a-f]{3}\b|[a-z]+(?:'[a-z]+)?|\d+")
_JOINED = ("high-key", "low-key", "free of", "fairy lights", "top down", "flat lay", "eye level", "do not")
_DEFAULT_RIM: Rgb = (0.93, 0.95, 1.0)
_FESTIVE_LIGHTS: tuple[Rgb, ...] = ((0.86, 0.18, 0.15), (0.98, 0.78, 0.36), (0.20, 0.55, 0.28), (1.0, 0.9, 0.7))
_WARM_LIGHTS: tuple[Rgb, ...] = ((1.0, 0.80, 0.50), (1.0, 0.68, 0.40), (1.0, 0.90, 0.72))
_COOL_LIGHTS: tuple[Rgb, ...] = ((0.75, 0.85, 1.0), (0.9, 0.95, 1.0), (0.62, 0.74, 0.95))


@dataclass(slots=True)
class _Findings:
    """What has been understood so far; None = nothing said."""

    surface: Material | None = None
    surface_colour: Rgb | None = None
    backdrop: Material | None = None
    backdrop_colour: Rgb | None = None
    light_colour: Rgb | None = None
    rim: Rgb | None = None
    loose_colours: list[Rgb] = field(default_factory=list)


def read_prompt(prompt: str) -> Scene:
    """The scene a prompt describes. Never fails: every text describes some scene."""
    clauses, negated = _clauses(prompt)
    findings = _Findings()
    for clause in clauses:
        _read_materials_and_colours(clause, findings)
    everything = [word for clause in clauses for word in clause]
    present = set(everything)

    surface = findings.surface or Material.PLAIN
    surface_colour = findings.surface_colour or next(iter(findings.loose_colours), None)
    backdrop = findings.backdrop
    if surface_colour is None and findings.surface is None and findings.backdrop_colour is not None:
        surface_colour = findings.backdrop_colour  # "charcoal gradient": floor and backdrop are one sweep
        surface = backdrop or surface
    surface_colour = surface_colour or NATURAL_COLOURS[surface]
    backdrop_colour = findings.backdrop_colour or (
        NATURAL_COLOURS[backdrop] if backdrop is not None else _matching_backdrop(surface_colour)
    )
    if backdrop is None:
        backdrop = surface if surface in (Material.STONE, Material.VELVET, Material.SILK) else Material.PLAIN
        if findings.backdrop_colour is not None:
            backdrop = Material.PLAIN
    elevation, turn = _camera(clauses, " ".join(everything))
    light = _light(clauses, findings)
    return Scene(
        surface=surface,
        surface_colour=surface_colour,
        backdrop=backdrop,
        backdrop_colour=backdrop_colour,
        sculpted=bool(present & {"sculpted", "carved", "chiselled", "chiseled", "sculptural", "rugged"}),
        support=_support(present),
        light=light,
        elevation=elevation,
        turn=turn,
        place=_place(clauses),
        bokeh=_bokeh(present, light),
        shadows=not negated & {"shadow", "shadows"} and "shadowless" not in present,
        reflections=_reflections(present, negated),
        vignette=0.08 if light.ambient > 0.7 else 0.3 if light.ambient > 0.3 else 0.5,
    )


def _clauses(prompt: str) -> tuple[list[list[str]], set[str]]:
    """The clauses that speak of the scene, as words, and the set of words that were negated."""
    text = prompt.lower().replace("’", "'").replace("°", " degrees ").replace("colour", "color")
    for phrase in _JOINED:
        text = text.replace(phrase, {"free of": "without", "do not": "not"}.get(phrase, phrase.replace(" ", "-")))
    clauses: list[list[str]] = []
    negated: set[str] = set()
    for sentence in re.split(r"[.;:!?\n]+(?!\d)", text):
        protecting = False
        for part in re.split(r",|\s[—–-]\s|[()]", sentence):
            found = _tokens(part)
            # "Keep its design, colour and stones, on white marble": a preposition returns to the scene.
            protecting = protecting and not (
                found and found[0] in words.ON_WORDS | words.AGAINST_WORDS | {"in", "with", "under"}
            )
            if set(found) & words.PROTECTING_WORDS:
                protecting = True
            kept: list[str] = []
            denying = False
            for word in found:
                if word in words.NEGATIONS:
                    denying = True
                elif denying and word in words.NEGATION_ENDS:
                    denying = False
                elif denying:
                    negated.add(word)
                if not denying and not protecting:
                    kept.append(word)
            if kept:
                clauses.append(kept)
    return clauses, negated


def _tokens(text: str) -> list[str]:
    joined = {phrase.replace(" ", "-") for phrase in _JOINED}
    tokens: list[str] = []
    for chunk in text.split():
        bare = chunk.strip("\"'`*_“”")
        tokens.extend([bare] if bare in joined else _TOKEN.findall(bare))
    return tokens


def _read_materials_and_colours(clause: list[str], findings: _Findings) -> None:
    """Give each colour to the noun it stands before, each material to the floor or the backdrop."""
    colours: list[Rgb] = []
    modifiers: list[str] = []
    behind = False  # after "against": what follows is the backdrop
    last_noun: str | None = None
    for index, word in enumerate(clause):
        following = clause[index + 1 : index + 3]
        behind = (behind or word in words.AGAINST_WORDS) and word not in words.ON_WORDS
        if is_modifier(word):
            modifiers.append(word)
            if word not in words.LIGHT_COLOURS:
                continue
        material = words.MATERIALS.get(word)
        colour = colour_of(word, tuple(modifiers))
        if material is not None and colour is not None and following and following[0] in words.MATERIALS:
            material = None  # "moss velvet", "oak wood": here the word is a colour
        if material is not None and not (following and following[0] in words.PRODUCT_WORDS):
            to_backdrop = behind or bool(set(following) & words.BACKDROP_WORDS)
            named = _mean(colours) or (colour_of(material[1], tuple(modifiers)) if material[1] else None)
            _set_material(findings, material[0], named, to_backdrop=to_backdrop)
            if not colours and named is None and modifiers:
                _darken_natural(findings, material[0], modifiers, to_backdrop=to_backdrop)
            colours, modifiers, last_noun = [], [], "backdrop" if to_backdrop else "surface"
        elif colour is not None:
            if last_noun is not None and _next_noun(clause, index) is None:
                _set_colour(findings, last_noun, colour)  # "velvet in deep emerald"
            else:
                colours.append(colour)
            modifiers = []
        else:
            noun = _noun_role(word, behind=behind)
            if noun is not None and colours:
                _set_colour(findings, noun, _mean(colours) or colours[0])
                colours, modifiers = [], []
            elif noun in ("product", "light"):
                modifiers = []
            if noun in ("surface", "backdrop"):
                last_noun = noun
    findings.loose_colours.extend(colours)


def _noun_role(word: str, *, behind: bool) -> str | None:
    if word in words.RIM_WORDS:
        return "rim"
    if word in words.LIGHT_WORDS:
        return "light"
    if word in words.BACKDROP_WORDS:
        return "backdrop"
    if word in words.SURFACE_WORDS | words.CUSHION_WORDS | words.PLINTH_WORDS:
        return "backdrop" if behind else "surface"
    if word in words.PRODUCT_WORDS:
        return "product"
    return None


def _next_noun(clause: list[str], index: int) -> str | None:
    """The role of the first noun within four words after `index`, if any."""
    for word in clause[index + 1 : index + 5]:
        if word in words.MATERIALS:
            return "surface"
        role = _noun_role(word, behind=False)
        if role is not None:
            return role
    return None


def _set_material(findings: _Findings, material: Material, colour: Rgb | None, *, to_backdrop: bool) -> None:
    """The first material named for a role wins, except that a later word may add the colour."""
    if to_backdrop:
        findings.backdrop = findings.backdrop or material
        findings.backdrop_colour = findings.backdrop_colour or colour
    else:
        findings.surface = findings.surface or material
        findings.surface_colour = findings.surface_colour or colour


def _darken_natural(findings: _Findings, material: Material, modifiers: list[str], *, to_backdrop: bool) -> None:
    """ "dark wood": the modifier changes the material's own colour."""
    code = "#" + "".join(f"{round(channel * 255):02x}" for channel in NATURAL_COLOURS[material])
    colour = colour_of(code, tuple(modifiers))
    if colour is not None:
        _set_material(findings, material, colour, to_backdrop=to_backdrop)


def _set_colour(findings: _Findings, role: str, colour: Rgb) -> None:
    if role == "surface":
        findings.surface_colour = findings.surface_colour or colour
    elif role == "backdrop":
        findings.backdrop_colour = findings.backdrop_colour or colour
    elif role == "light":
        findings.light_colour = findings.light_colour or colour
    elif role == "rim":
        findings.rim = findings.rim or colour


def _matching_backdrop(surface_colour: Rgb) -> Rgb:
    """A calmer relative of the surface's colour: greyer, and lighter or darker away from it."""
    grey = sum(surface_colour) / 3.0
    factor = 0.96 if grey > 0.6 else 0.72
    red, green, blue = (factor * (0.7 * channel + 0.3 * grey) for channel in surface_colour)
    return red, green, blue


def _light(clauses: list[list[str]], findings: _Findings) -> Light:
    light = Light()
    direction, hardness, colour, rim = light.direction, light.hardness, None, findings.rim
    ambient, strength = light.ambient, light.strength
    for clause in clauses:
        text, present = " ".join(clause), set(clause)
        for word in clause:
            if word in words.MOODS and not _is_colour_modifier_here(clause, word):
                ambient, strength = words.MOODS[word]
        if not present & (words.LIGHT_WORDS | words.RIM_WORDS):
            continue
        rim_only = bool(present & words.RIM_WORDS) and not present & {"spotlight", "key", "light"}
        if present & words.RIM_WORDS:
            rim = rim or _DEFAULT_RIM
        if not rim_only:
            direction = _direction(text) or direction
        hardness = next((words.HARDNESS[word] for word in clause if word in words.HARDNESS), hardness)
        if colour is None and not present & words.RIM_WORDS:
            colour = _mean([words.LIGHT_COLOURS[word] for word in clause if word in words.LIGHT_COLOURS])
    if hardness >= 0.85 and ambient == light.ambient:
        ambient = 0.22  # a spotlight leaves the rest of the room dark
    if hardness <= 0.1 and ambient == light.ambient:
        ambient = 0.72
    if colour is None and findings.light_colour is not None:
        brightest = max(findings.light_colour)
        red, green, blue = (0.35 + 0.75 * channel / brightest for channel in findings.light_colour)
        colour = (red, green, blue)
    return Light(
        direction=direction,
        hardness=hardness,
        colour=colour or light.colour,
        ambient=ambient,
        strength=strength,
        rim=rim,
    )


def _is_colour_modifier_here(clause: list[str], word: str) -> bool:
    """Whether "bright" in this clause belongs to a colour ("bright red wall") rather than to the mood."""
    index = clause.index(word)
    following = clause[index + 1] if index + 1 < len(clause) else ""
    return is_modifier(word) and colour_of(following) is not None


def _direction(text: str) -> tuple[float, float, float] | None:
    """From the product towards the light of this clause (x right, y down, z to the camera); None if it is not said."""
    if re.search(r"\b(behind|back|backlit|backlight|backlighting)\b", text):
        return 0.15, -0.55, -0.8
    across = -0.7 if re.search(r"\bleft\b", text) else 0.7 if re.search(r"\bright\b", text) else 0.0
    if re.search(r"\b(below|beneath|underneath|bottom|lower)\b", text):
        return across, 0.8, 0.4
    if re.search(r"\b(upper|top|above|overhead)\b", text):
        return (across, -0.65, 0.35) if across else (0.0, -0.97, 0.2)
    if across:
        return 1.3 * across, -0.35, 0.25
    if re.search(r"\b(front|frontal|camera)\b", text):
        return 0.0, -0.4, 0.9
    return None


def _camera(clauses: list[list[str]], text: str) -> tuple[float, float]:
    """Elevation in degrees and turn (-1..1)."""
    outside_light = " ".join(" ".join(clause) for clause in clauses if not set(clause) & words.LIGHT_WORDS)
    turn = 0.0
    if re.search(r"\b(front|three quarter|angled?|view|degrees) (from )?(the )?left\b", outside_light):
        turn = -0.6
    elif re.search(r"\b(front|three quarter|angled?|view|degrees) (from )?(the )?right\b", outside_light):
        turn = 0.6
    stated = re.search(r"\b(\d{1,2}) (?:degrees?|deg) (?:above|over|elevation|down)", text)
    if stated:
        return float(stated[1]), turn
    if re.search(r"\b(top-down|flat-lay|flatlay|overhead|bird's eye|birds eye|from above)\b", outside_light):
        return 75.0, turn
    if re.search(r"\b(front facing|eye-level|straight on|head on)\b", outside_light):
        return 12.0, turn
    if re.search(r"\b(side profile|profile|side view|low angle)\b", outside_light):
        return 8.0, turn
    return Scene().elevation, turn


def _support(present: set[str]) -> Support:
    if present & words.CUSHION_WORDS:
        return Support.CUSHION
    return Support.PLINTH if present & words.PLINTH_WORDS else Support.NONE


def _place(clauses: list[list[str]]) -> float:
    for clause in clauses:
        present = set(clause)
        if present & words.LIGHT_WORDS or not present & {"third", "placed", "positioned", "composition", "side", "off"}:
            continue
        if "left" in present:
            return 0.36
        if "right" in present:
            return 0.64
    return 0.5


def _bokeh(present: set[str], light: Light) -> tuple[Rgb, ...]:
    if present & words.FESTIVE_WORDS:
        return _FESTIVE_LIGHTS
    if present & words.BOKEH_WORDS:
        return _WARM_LIGHTS if light.colour[0] >= light.colour[2] else _COOL_LIGHTS
    return ()


def _reflections(present: set[str], negated: set[str]) -> bool | None:
    if negated & {"reflection", "reflections", "reflective"}:
        return False
    return True if present & {"reflection", "reflections", "reflective", "mirrored", "glossy", "polished"} else None


def _mean(colours: list[Rgb]) -> Rgb | None:
    if not colours:
        return None
    red, green, blue = (sum(channel) / len(colours) for channel in zip(*colours, strict=True))
    return red, green, blue
