def holm_by_hand(p, alpha):
    return [value < alpha for value in p]
