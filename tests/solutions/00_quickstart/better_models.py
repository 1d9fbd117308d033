def better_models():
    return {"F", "G"}
