def equally_good(a, b, margin=0.5):
    gap = contrast([a, b])
    if gap["p"] < 0.05:
        return "different"
    return "equal" if -margin <= gap["low"] and gap["high"] <= margin else "cannot tell"
