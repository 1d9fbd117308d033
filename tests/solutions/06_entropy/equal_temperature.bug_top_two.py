def equal_temperature(p, q):
    from scipy.optimize import brentq

    wanted = analysis.topk_entropy(q, 2).mean()
    return brentq(
        lambda t: analysis.topk_entropy(apply_temperature(p, t), 2).mean() - wanted,
        0.01,
        100,
    )
