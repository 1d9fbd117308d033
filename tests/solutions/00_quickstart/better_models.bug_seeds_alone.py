def better_models():
    return {"A", "F", "G"}  # the intervals over seeds alone
