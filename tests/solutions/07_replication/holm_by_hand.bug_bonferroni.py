def holm_by_hand(p, alpha):
    return [value < alpha / len(p) for value in p]
