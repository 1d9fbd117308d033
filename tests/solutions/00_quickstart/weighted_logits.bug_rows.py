def weighted_logits(similarity, log_weights, labels):
    return similarity + log_weights[:, labels].T  # the negative's weights, not the anchor's
