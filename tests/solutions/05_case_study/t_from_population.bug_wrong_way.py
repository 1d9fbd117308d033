def t_from_population(mean_a, sd_a, mean_b, sd_b, n):
    return (mean_a - mean_b) / np.sqrt((sd_a**2 + sd_b**2) / (n + 1))
