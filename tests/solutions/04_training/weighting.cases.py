logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
cases = [
    (logits, torch.tensor([3, 0, 2, 2, 1])),
    (3 * logits[:3], torch.tensor([1, 1, 0])),
    (torch.tensor([[150.0, -150, 20, 0]]), torch.tensor([1])),
]
