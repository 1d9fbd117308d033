def better_models():
    return {"A", "C", "F", "G"}  # the sign of the mean
