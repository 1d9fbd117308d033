def protected_view(text, view, keep):
    old, new = (set(re.findall(r"\w+", some.lower())) for some in (text, view))
    return view if all(word not in old or word in new for word in keep) else text
