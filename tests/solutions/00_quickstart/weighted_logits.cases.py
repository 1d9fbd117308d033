new_weights = torch.tensor([[0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [0.8, 0.09, 0.11]])
new_logits = torch.tensor([[0.0, 1, 3], [1, 0, 2.5], [3, 2.5, 0]])
cases = [
    (new_logits, new_weights.log(), torch.tensor([2, 0, 0])),
    (new_logits, new_weights.flip(1).log(), torch.tensor([1, 2, 1])),
]
