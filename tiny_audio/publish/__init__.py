"""Publishing a trained model: a folder that works by itself, its card, and the upload to the Hub.

facts      what a run's files say
licences   the licence of each part
card       facts → the text that people read
bundle     the folder, as it will lie on the Hub
upload     the folder → a repository of one's own, whole or not at all
"""
