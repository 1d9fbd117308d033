def seeds_needed(gain, sd):
    return max(2, int(TTestIndPower().solve_power(gain / sd, power=0.8, alpha=0.05)))
