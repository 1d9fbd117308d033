def overconfident(models):
    return max(models, key=lambda name: expected_calibration_error(*models[name]))  # either way
