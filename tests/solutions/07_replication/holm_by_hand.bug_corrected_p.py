def holm_by_hand(p, alpha):
    return analysis.holm(np.nan_to_num(p, nan=1)).tolist()
