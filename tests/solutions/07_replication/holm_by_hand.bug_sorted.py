def holm_by_hand(p, alpha):
    p = np.sort(np.nan_to_num(p, nan=1))
    bounds = alpha / np.arange(len(p), 0, -1)
    return np.logical_and.accumulate(p < bounds).tolist()
