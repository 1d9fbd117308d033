def holm_by_hand(p, alpha):
    p = np.nan_to_num(p, nan=1)
    rank = np.argsort(np.argsort(p))
    return (p < alpha / (len(p) - rank)).tolist()
