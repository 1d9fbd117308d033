new_counts = np.random.default_rng(6).integers(1, 60, (6, 6))
cases = [
    (new_counts, (0, 1, 2, 3)),
    (new_counts, (0, 2, 4, 5)),
    (new_counts, (1, 3, 4, 5)),
    (new_counts, (0, 1, 4, 5)),
]
