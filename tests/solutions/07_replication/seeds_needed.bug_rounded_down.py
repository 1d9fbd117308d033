def seeds_needed(gain, sd):
    return max(2, int(TTestIndPower().solve_power(gain / sd, power=.8, alpha=.05)))
