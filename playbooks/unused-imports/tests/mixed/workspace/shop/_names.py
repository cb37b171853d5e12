LABEL = "shop"
