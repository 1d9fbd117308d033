def fresh_model(rng, spread, temperature):
    p = rng.dirichlet(np.full(5, spread), 2000)
    truth = apply_temperature(p, temperature)  # at 1 it is as often right as it says
    return p, (truth.cumsum(1) < rng.random((2000, 1))).sum(1).clip(max=4)


rng = np.random.default_rng(19)
sharp, often_wrong = fresh_model(rng, 0.15, 1), fresh_model(rng, 6, 1)
too_sure, too_modest = fresh_model(rng, 0.7, 2), fresh_model(rng, 1.2, 0.3)
cases = [
    ({"w": often_wrong, "x": too_sure, "y": too_modest, "z": sharp},),
    ({"north": sharp, "south": too_modest, "east": often_wrong, "west": too_sure},),
]
