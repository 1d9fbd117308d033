from scipy import stats


def my_verdict(mean, sd, n, scores):
    ours = np.mean(scores)
    if abs(round(ours, 1) - mean) <= sd + 1e-9:
        return "inside"
    if len(scores) < 2:
        return "cannot tell"
    p = stats.ttest_ind_from_stats(ours, np.std(scores, ddof=1), len(scores), mean, sd, n, equal_var=False).pvalue
    return "compatible" if p >= .05 else "outside"
