"""Colour words and their sRGB values, with modifiers: "dark navy", "pale blush", "#1b2a41"."""

import colorsys
import re

Rgb = tuple[float, float, float]  # sRGB, each 0..1

_HEX_BY_NAME = {
    "white": "f4f3f0", "snow": "f5f7fa", "ivory": "f3ecdc", "cream": "f1e6cf", "pearl": "ece7df", "chalk": "efeee9",
    "alabaster": "efeae0", "porcelain": "f0efec", "eggshell": "ece3d0", "beige": "d9c7a8", "sand": "d2ba91",
    "champagne": "e6d3ad", "nude": "dcb99f", "tan": "c19a6b", "camel": "b98b56", "caramel": "b06f34",
    "taupe": "8d7b6c", "greige": "b3a899", "khaki": "a99a6b", "honey": "d29a3a", "amber": "e0912a",
    "gold": "c9a13f", "golden": "c9a13f", "brass": "b08d43", "bronze": "8c6239", "copper": "b3673c",
    "ochre": "b9792c", "mustard": "c99a2e", "yellow": "e3c12f", "lemon": "ecdf5d", "saffron": "e0a02c",
    "orange": "d9772b", "tangerine": "e0812f", "peach": "f0bd9a", "apricot": "ecb07f", "coral": "e2735d",
    "salmon": "e59a86", "terracotta": "b8603f", "rust": "9c4a25", "brick": "94412f", "brown": "6b4630",
    "chocolate": "4a2f22", "coffee": "56402f", "espresso": "38261d", "mocha": "7b5a45", "chestnut": "6d3a26",
    "mahogany": "5b2a1e", "walnut": "5a3e2b", "oak": "b48a5a", "red": "b3222b", "scarlet": "b8231c",
    "crimson": "9c1b33", "ruby": "8f1538", "cherry": "86182c", "burgundy": "6a1428", "maroon": "5d1522",
    "wine": "5c1a2e", "oxblood": "4d1319", "garnet": "67161f", "pink": "e3a0b0", "blush": "e9c4bf",
    "rose": "d59a9d", "fuchsia": "b92d79", "magenta": "a8266f", "raspberry": "a02350", "purple": "5f3a80",
    "plum": "58294f", "aubergine": "3c1d38", "eggplant": "3c1d38", "violet": "6c4a99", "lavender": "b9aed3",
    "lilac": "c3afd0", "mauve": "a88a9f", "amethyst": "7d5a9e", "indigo": "2f2d6b", "navy": "1a2744",
    "midnight": "141b33", "blue": "2f5c9c", "royal": "2a4aa0", "cobalt": "1f4aa0", "sapphire": "18397f",
    "azure": "4e93cc", "sky": "9cc3e0", "denim": "44618a", "steel": "6f7f8f", "slate": "48525d",
    "cyan": "4ab5c4", "turquoise": "3aa9a3", "aqua": "72c4c4", "teal": "1f6a6c", "petrol": "164a55",
    "green": "3c7a48", "emerald": "12684a", "jade": "3f8c6b", "forest": "23472f", "olive": "6b6a34",
    "sage": "9caa8b", "mint": "b4d6c1", "lime": "9dbf3b", "moss": "5b6b35", "pistachio": "b5c48c",
    "black": "121214", "onyx": "0f0f12", "jet": "0d0d0f", "ebony": "1e1815", "charcoal": "2b2c2f",
    "graphite": "3a3c40", "anthracite": "2e3135", "grey": "8a8b8d", "gray": "8a8b8d", "silver": "b9bcc0",
    "ash": "a3a39e", "smoke": "7e8083", "pewter": "7f8285", "stone": "8f8a83", "platinum": "cfd0d0",
}  # fmt: skip

#: How a word before a colour changes it: factors on saturation and value, and a share of white mixed in.
_MODIFIERS = {
    "dark": (1.0, 0.62, 0.0), "deep": (1.15, 0.72, 0.0), "light": (0.75, 1.12, 0.30), "pale": (0.55, 1.15, 0.45),
    "soft": (0.75, 1.05, 0.15), "bright": (1.15, 1.25, 0.0), "vivid": (1.35, 1.15, 0.0), "rich": (1.2, 0.9, 0.0),
    "muted": (0.55, 0.95, 0.05), "dusty": (0.5, 0.95, 0.12), "pastel": (0.55, 1.15, 0.45), "warm": (1.0, 1.0, 0.0),
    "hot": (1.3, 1.1, 0.0), "powder": (0.5, 1.1, 0.4), "faded": (0.5, 1.0, 0.2),
}  # fmt: skip

_HEX = re.compile(r"#([0-9a-f]{6}|[0-9a-f]{3})\b")


def colour_of(word: str, modifiers: tuple[str, ...] = ()) -> Rgb | None:
    """The colour a lower-case word or `#hex` code names, changed by modifiers such as "dark"; None if it is none."""
    digits = _HEX_BY_NAME.get(word)
    if digits is None:
        code = _HEX.fullmatch(word)
        if code is None:
            return None
        digits = code[1] if len(code[1]) == 6 else "".join(2 * digit for digit in code[1])
    red, green, blue = (int(digits[at : at + 2], 16) / 255.0 for at in (0, 2, 4))
    for modifier in modifiers:
        if modifier in _MODIFIERS:
            red, green, blue = _modified(red, green, blue, *_MODIFIERS[modifier])
    return red, green, blue


def is_modifier(word: str) -> bool:
    """Whether the word changes the colour named right after it."""
    return word in _MODIFIERS


def _modified(red: float, green: float, blue: float, saturation: float, value: float, white: float) -> Rgb:
    hue, old_saturation, old_value = colorsys.rgb_to_hsv(red, green, blue)
    channels = colorsys.hsv_to_rgb(hue, min(1.0, old_saturation * saturation), min(1.0, old_value * value))
    mixed = [channel + (1.0 - channel) * white for channel in channels]
    return mixed[0], mixed[1], mixed[2]
