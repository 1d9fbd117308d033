def weighted_logits(similarity, log_weights, labels):
    return similarity + log_weights.gather(
        1, labels[:, None]
    )  # w of the anchor's class for every k
