"""Faces in photos: found, chosen, aligned, pasted back, followed through time.

Coordinates are pixels of the frame, x to the right, y down, measured from the frame's edge: the first pixel covers
[0, 1]. So positions scale with the picture, and a crop of any size comes from the same matrices.
"""
