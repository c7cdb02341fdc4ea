"""General MIDI: which shipped patch plays each of its 128 programs, so that any file sounds at once."""

DRUMS = 9  # the channel of drums, from 0
KIT = "drum-kit"
KITS = {24: "electronic-kit", 25: "electronic-kit"}  # the electronic and the analogue one of Roland's GS

# Family by family, eight programs each, in the order of the standard: piano, chromatic percussion, organ, guitar, bass,
# strings, ensemble, brass, reed, pipe, lead, pad, effects, ethnic, percussive, sounds of the world.
_ROWS = """
    grand-piano grand-piano grand-piano grand-piano tine-piano fm-piano harpsichord clavinet
    celesta glockenspiel music-box vibraphone marimba xylophone tubular-bells koto
    drawbar-organ percussive-organ drawbar-organ church-organ reed-organ reed-organ reed-organ reed-organ
    nylon-guitar steel-guitar clean-guitar clean-guitar muted-guitar drive-guitar drive-guitar clean-guitar
    upright-bass finger-bass pick-bass finger-bass slap-bass slap-bass synth-bass acid-bass
    violin violin cello cello tremolo-strings pizzicato harp timpani
    strings slow-strings synth-strings synth-strings choir synth-voice synth-voice brass-section
    trumpet french-horn french-horn trumpet french-horn brass-section synth-brass synth-brass
    saxophone saxophone saxophone saxophone oboe oboe clarinet clarinet
    flute flute ocarina flute flute flute ocarina ocarina
    square-lead saw-lead ocarina sync-lead drive-guitar synth-voice fifths-lead saw-lead
    glass-pad warm-pad synth-strings frozen-choir metal-pad metal-pad frozen-choir sweep-pad
    bell-rain tide-pad glass-pad tide-pad sweep-pad metal-pad bell-rain metal-pad
    sitar banjo koto koto kalimba reed-organ violin oboe
    glockenspiel xylophone steel-drums xylophone timpani timpani timpani seashore
    wind wind seashore ocarina glockenspiel seashore seashore timpani
"""
PATCHES = tuple(_ROWS.split())
