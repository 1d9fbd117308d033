def t_from_population(mean_a, sd_a, mean_b, sd_b, n):
    factor = n / (n - 1)  # of the variance, not of the deviation
    return (mean_a - mean_b) / np.sqrt(((factor * sd_a) ** 2 + (factor * sd_b) ** 2) / n)
