diagnosis = {"a": "lone", "b": "self", "c": "weight"}
