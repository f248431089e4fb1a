"""How predictions depend on the scene: flips by scene, and log-odds on other scenes."""
