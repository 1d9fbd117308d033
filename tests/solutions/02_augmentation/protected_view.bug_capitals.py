def protected_view(text, view, keep):
    def count(some):
        words = re.findall(r"\w+", some)
        return [words.count(word) for word in keep]

    return (
        view if all(new >= old for old, new in zip(count(text), count(view), strict=True)) else text
    )
