def equally_good(a, b, margin=0.5):
    gap = contrast([a, b], level=0.9)
    if -margin <= gap["low"] and gap["high"] <= margin:
        return "equal"
    return "different" if gap["p"] < 0.05 else "cannot tell"
