def holm_by_hand(p, alpha):
    p = np.nan_to_num(p, nan=1)
    order = np.argsort(p)
    below = p[order] < alpha / np.arange(len(p), 0, -1)
    stays = np.empty(len(p), dtype=bool)
    stays[order] = np.logical_or.accumulate(below[::-1])[::-1]  # Hochberg's
    return stays.tolist()
