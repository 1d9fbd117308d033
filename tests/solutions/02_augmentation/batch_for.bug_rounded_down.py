def batch_for(num_classes, share):
    return 1 + int(np.floor(np.log(share) / np.log(1 - 1 / num_classes) + 1e-9))
