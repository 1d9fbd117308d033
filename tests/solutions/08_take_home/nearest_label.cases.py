random = np.random.default_rng(8)
cases = [
    (random.normal(size=(12, 3)) * random.uniform(0.1, 9, (12, 1)), np.arange(12) % 3, k)
    for k in (1, 2, 3, 5)
]
# All cosines are below 0.
cases.append((np.array([[3, 0], [-0.34, 0.94], [-0.64, -0.77]]), np.array([2, 0, 1]), 1))
