"""What the bundled ear is trained on, and how: sounds made here, from our own engines and from free soundfonts.

`python -m training.render -o FOLDER` renders every sound, the same ones for the same seed. `clips.py` says what a
clip is; `pieces.py` and `production.py` are what the synthesis is made of; `drums.py`, `metal.py` and `grains.py`
make drums, of which `recipes.py` keeps the list; `tones.py` and `sustained.py` make notes; `effects.py` makes what is
neither; `midi_notes.py` and `kits.py` render the FluidR3 General MIDI soundfont; `speech.py` speaks with espeak-ng;
`sheet.py` draws a page of spectrograms to look at. No recording is used but those inside the soundfont, which is under
the MIT licence. `gallery.py` has nothing to do with the ear: it draws sixteen sounds of a run for docs/gallery.
"""
