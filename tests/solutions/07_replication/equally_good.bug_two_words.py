def equally_good(a, b, margin=0.5):
    gap = contrast([a, b])
    return "equal" if -margin <= gap["low"] and gap["high"] <= margin else "different"
