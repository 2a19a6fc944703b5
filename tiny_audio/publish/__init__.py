"""A trained model, published: a folder that works by itself, its card, and the way to the Hub.

facts      what a run's files say
licences   under which licence each part stands
card       facts → the text that people read
bundle     the folder, as it will lie on the Hub
upload     the folder → a repository of one's own, whole or not at all
"""
