def better_models():
    return {"C", "F", "G"}  # the intervals over texts alone
