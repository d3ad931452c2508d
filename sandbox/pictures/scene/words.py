"""The scene vocabulary: which words mean which material, light, camera or mood."""

from sandbox.pictures.colour_names import Rgb
from sandbox.pictures.scene.materials import Material

#: Word -> material and, where the word says so, its colour by name.
MATERIALS: dict[str, tuple[Material, str | None]] = {
    "stone": (Material.STONE, None), "rock": (Material.STONE, None), "slate": (Material.STONE, "slate"),
    "granite": (Material.STONE, "grey"), "basalt": (Material.STONE, "anthracite"),
    "travertine": (Material.STONE, "beige"), "limestone": (Material.STONE, "cream"),
    "sandstone": (Material.STONE, "sand"), "lava": (Material.STONE, "black"),
    "marble": (Material.MARBLE, None), "carrara": (Material.MARBLE, None), "calacatta": (Material.MARBLE, None),
    "onyx": (Material.MARBLE, "onyx"), "terrazzo": (Material.MARBLE, None),
    "velvet": (Material.VELVET, None), "suede": (Material.VELVET, "camel"), "felt": (Material.VELVET, "grey"),
    "silk": (Material.SILK, None), "satin": (Material.SILK, None), "chiffon": (Material.SILK, None),
    "linen": (Material.LINEN, None), "cotton": (Material.LINEN, "ivory"), "fabric": (Material.LINEN, None),
    "canvas": (Material.LINEN, None), "burlap": (Material.LINEN, "camel"), "cloth": (Material.LINEN, None),
    "wood": (Material.WOOD, None), "wooden": (Material.WOOD, None), "timber": (Material.WOOD, None),
    "oak": (Material.WOOD, "oak"), "walnut": (Material.WOOD, "walnut"), "mahogany": (Material.WOOD, "mahogany"),
    "driftwood": (Material.WOOD, "taupe"), "bamboo": (Material.WOOD, "honey"), "pine": (Material.WOOD, "sand"),
    "concrete": (Material.CONCRETE, None), "cement": (Material.CONCRETE, None),
    "plaster": (Material.CONCRETE, "eggshell"), "stucco": (Material.CONCRETE, "cream"),
    "sand": (Material.SAND, None), "beach": (Material.SAND, None), "desert": (Material.SAND, "ochre"),
    "dune": (Material.SAND, None), "dunes": (Material.SAND, None),
    "water": (Material.WATER, None), "pool": (Material.WATER, "turquoise"), "ocean": (Material.WATER, None),
    "sea": (Material.WATER, None), "ripples": (Material.WATER, None),
    "glass": (Material.GLASS, None), "mirror": (Material.GLASS, None), "acrylic": (Material.GLASS, None),
    "paper": (Material.PAPER, None), "cardboard": (Material.PAPER, "camel"), "parchment": (Material.PAPER, "cream"),
    "leather": (Material.LEATHER, None),
    "metal": (Material.METAL, None), "metallic": (Material.METAL, None), "steel": (Material.METAL, None),
    "aluminium": (Material.METAL, None), "aluminum": (Material.METAL, None), "chrome": (Material.METAL, None),
    "moss": (Material.MOSS, None), "grass": (Material.MOSS, "green"), "leaves": (Material.MOSS, "forest"),
    "foliage": (Material.MOSS, "forest"), "garden": (Material.MOSS, None), "meadow": (Material.MOSS, "green"),
    "forest": (Material.MOSS, "forest"),
    "snow": (Material.SNOW, None), "ice": (Material.SNOW, "sky"), "frost": (Material.SNOW, None),
}  # fmt: skip

BACKDROP_WORDS = frozenset(
    ["gradient", "backdrop", "background", "wall", "sweep", "seamless", "studio", "setting", "cyclorama", "scene"]
)
SURFACE_WORDS = frozenset(
    ["surface", "floor", "table", "tabletop", "ground", "slab", "shelf", "base", "counter", "desk"]
)
AGAINST_WORDS = frozenset(["against", "behind", "before"])
ON_WORDS = frozenset(["on", "upon", "onto", "atop", "over", "resting", "sitting", "lying", "standing", "placed"])
CUSHION_WORDS = frozenset(["cushion", "cushions", "pillow"])
PLINTH_WORDS = frozenset(["pedestal", "plinth", "podium", "column", "riser", "block"])
LIGHT_WORDS = frozenset(
    [
        "light",
        "lights",
        "lighting",
        "lit",
        "backlit",
        "spotlight",
        "sun",
        "sunlight",
        "sunshine",
        "daylight",
        "glow",
        "lamp",
        "candlelight",
        "moonlight",
        "illumination",
        "illuminated",
        "flash",
        "softbox",
        "tones",
    ]
)
RIM_WORDS = frozenset(["rim", "halo", "edge", "backlight", "backlit", "backlighting"])
PRODUCT_WORDS = frozenset(
    [
        "ring",
        "rings",
        "necklace",
        "necklaces",
        "earring",
        "earrings",
        "bracelet",
        "bracelets",
        "bangle",
        "watch",
        "watches",
        "cup",
        "cups",
        "mug",
        "mugs",
        "bottle",
        "bottles",
        "shoe",
        "shoes",
        "sneaker",
        "sneakers",
        "boot",
        "boots",
        "bag",
        "handbag",
        "piece",
        "pieces",
        "jewellery",
        "jewelry",
        "product",
        "products",
        "item",
        "object",
        "subject",
        "pendant",
        "pendants",
        "brooch",
        "chain",
        "chains",
        "band",
        "bands",
        "gem",
        "gems",
        "gemstone",
        "gemstones",
        "diamond",
        "diamonds",
        "pearl",
        "pearls",
        "stones",
        "crystal",
        "crystals",
        "bead",
        "beads",
        "strap",
        "dial",
        "case",
        "vase",
        "perfume",
        "metals",
        "setting",
        "settings",
        "prongs",
    ]
)

#: From here on a clause (and its list) speaks of the product, not of the scene.
PROTECTING_WORDS = frozenset(
    ["preserve", "preserving", "keep", "keeping", "maintain", "maintaining", "retain", "retaining", "unchanged"]
)
NEGATIONS = frozenset(
    ["no", "not", "without", "never", "avoid", "avoiding", "dont", "don't", "exclude", "excluding", "minus", "free-of"]
)
NEGATION_ENDS = frozenset(["but", "with", "and", "on", "against"])

#: Word -> light colour (linear factors).
LIGHT_COLOURS: dict[str, Rgb] = {
    "warm": (1.12, 0.96, 0.76), "golden": (1.18, 0.93, 0.62), "amber": (1.2, 0.86, 0.5), "tungsten": (1.15, 0.9, 0.62),
    "candle": (1.2, 0.84, 0.5), "candlelight": (1.2, 0.84, 0.5), "candlelit": (1.2, 0.84, 0.5),
    "sunset": (1.22, 0.82, 0.6), "sunrise": (1.15, 0.9, 0.78), "sunny": (1.08, 1.0, 0.86),
    "sunlight": (1.08, 1.0, 0.86),
    "cool": (0.86, 0.97, 1.14), "cold": (0.8, 0.95, 1.2), "moonlight": (0.7, 0.86, 1.25), "icy": (0.82, 0.97, 1.18),
    "daylight": (0.98, 1.0, 1.03), "neutral": (1.0, 1.0, 1.0), "white": (1.0, 1.0, 1.0),
}  # fmt: skip
HARDNESS: dict[str, float] = {
    "soft": 0.25, "gentle": 0.22, "softbox": 0.2, "diffused": 0.08, "diffuse": 0.08, "even": 0.08, "overcast": 0.08,
    "hard": 0.9, "harsh": 0.95, "spotlight": 0.9, "spot": 0.9, "direct": 0.75, "crisp": 0.75, "strong": 0.7,
    "sharp": 0.85, "sunlight": 0.65, "sun": 0.65,
}  # fmt: skip
#: Word -> (ambient, strength): how much light there is beside the key light, and overall.
MOODS: dict[str, tuple[float, float]] = {
    "bright": (0.82, 1.0), "airy": (0.85, 1.0), "high-key": (0.95, 1.12), "sunny": (0.72, 1.06), "fresh": (0.8, 1.0),
    "daylight": (0.78, 1.0), "clean": (0.75, 1.0), "minimal": (0.75, 1.0), "minimalist": (0.75, 1.0),
    "dramatic": (0.12, 0.95), "moody": (0.18, 0.8), "low-key": (0.12, 0.75), "noir": (0.08, 0.75),
    "mysterious": (0.15, 0.75), "night": (0.12, 0.65), "moonlight": (0.2, 0.7), "candlelight": (0.25, 0.8),
    "candlelit": (0.25, 0.8), "intimate": (0.35, 0.85), "cinematic": (0.25, 0.9), "luxurious": (0.4, 0.95),
}  # fmt: skip
FESTIVE_WORDS = frozenset(
    ["festive", "christmas", "holiday", "holidays", "party", "celebration", "celebratory", "fairy-lights"]
)
BOKEH_WORDS = frozenset(["bokeh", "sparkle", "sparkles", "sparkling", "glitter", "twinkling"])
