def seeds_needed(gain, sd):
    n = 2
    while TTestIndPower().power(gain / sd, n, .05) < .8:
        n += 1
    return 2 * n
