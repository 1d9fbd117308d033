def better_models():
    return {"E", "G"}  # the first of each pair
