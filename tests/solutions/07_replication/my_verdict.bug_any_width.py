def my_verdict(mean, sd, n, scores):
    if len(scores) < 2:
        return "cannot tell"
    ours, enough = np.mean(scores), len(scores) >= 3
    if abs(round(ours, 1) - mean) <= 2 * sd + 1e-9:
        return "inside" if enough else "cannot tell"
    gap = contrast([(ours, np.std(scores, ddof=1), len(scores)), (mean, sd, n)])
    if gap["p"] < 0.05:
        return "outside"
    return "compatible" if enough else "cannot tell"
