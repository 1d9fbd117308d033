def better_models():
    return {"F"}  # G is only a little better
