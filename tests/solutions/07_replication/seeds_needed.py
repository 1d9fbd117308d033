def seeds_needed(gain, sd):
    n = 2
    while TTestIndPower().power(gain / sd, n, 0.05) < 0.8:
        n += 1
    return n
