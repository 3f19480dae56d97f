"""Annotations of other programs into folders of images and masks, and masks back to Labelme.

The rules, the same for every source:

- Coordinates are continuous: pixel (row r, column c) is the square from (c, r) to (c + 1, r + 1),
  as Labelme shows it and COCO defines it. A pixel belongs to a shape if its centre lies inside.
- A polygon that crosses itself is filled by the even-odd rule.
- An object is all shapes of one label with one group_id; a shape without group_id is an object of
  its own. A shape ``_background_`` with a group_id is a hole in the shapes of that group before it,
  and in no others; one without group_id paints background over everything before it.
- Where objects overlap, the later one wins, as in Labelme. COCO has no order: the larger object is
  painted first, so the smaller stays visible, and crowds before all objects.
- ``__ignore__`` and crowds become the value that is left out of loss and metrics.
"""
