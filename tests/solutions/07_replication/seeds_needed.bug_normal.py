from scipy import stats


def seeds_needed(gain, sd):
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    return max(2, int(np.ceil(2 * (z * sd / gain) ** 2)))
