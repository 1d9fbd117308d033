rng = np.random.default_rng(17)
sure, unsure = rng.dirichlet(np.full(5, 0.3), 150), rng.dirichlet(np.full(5, 2.0), 150)
cases = [(sure, unsure), (unsure, sure)]


def same(a, b):  # the check allows a thousandth of a bit, here up to 0.3 % of the temperature
    return np.allclose(a, b, rtol=0.005)
