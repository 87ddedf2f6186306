print("ok", __name__, __package__)
