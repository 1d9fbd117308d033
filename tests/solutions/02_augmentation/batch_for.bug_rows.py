def batch_for(num_classes, share):
    return 2 * (1 + int(np.ceil(np.log(share) / np.log(1 - 1 / num_classes) - 1e-9)))
