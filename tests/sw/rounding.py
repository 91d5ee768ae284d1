"""Rounding as TFLite does it, independent of the model."""


def rounding_two_step(x, multiplier, shift):
    """TFLite's two steps in Python integers, as its sources have them."""
    product = (x << max(shift, 0)) * multiplier
    nudge = (1 << 30) if product >= 0 else 1 - (1 << 30)
    high = abs(product + nudge) >> 31
    high = high if product + nudge >= 0 else -high
    exponent = max(-shift, 0)
    remainder = high & ((1 << exponent) - 1)
    threshold = (((1 << exponent) - 1) >> 1) + (high < 0)
    return (high >> exponent) + (remainder > threshold)
