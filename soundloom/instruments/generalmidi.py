"""General MIDI: what its 128 programs are called, and which shipped patch plays each, so that any file sounds at once."""

DRUMS = 9  # the channel of drums, from 0

# Family by family: eight programs a line, as the standard groups them.
PATCHES = tuple(
    name
    for line in """
    grand-piano bright-piano electric-grand honky-tonk tine-piano fm-piano harpsichord clavinet
    celesta glockenspiel music-box vibraphone marimba xylophone tubular-bells dulcimer
    drawbar-organ percussive-organ rock-organ church-organ reed-organ accordion harmonica accordion
    nylon-guitar steel-guitar jazz-guitar clean-guitar muted-guitar drive-guitar lead-guitar harmonics-guitar
    upright-bass finger-bass pick-bass fretless-bass slap-bass slap-bass synth-bass acid-bass
    violin violin cello contrabass tremolo-strings pizzicato harp timpani
    strings slow-strings synth-strings synth-strings choir voice-oohs synth-voice orchestra-hit
    trumpet trombone tuba muted-trumpet french-horn brass-section synth-brass synth-brass
    saxophone saxophone saxophone saxophone oboe oboe bassoon clarinet
    flute flute recorder pan-flute pan-flute recorder whistle ocarina
    square-lead saw-lead calliope-lead sync-lead charang-lead voice-lead fifths-lead bass-lead
    glass-pad warm-pad poly-pad choir-pad bowed-pad metal-pad halo-pad sweep-pad
    ice-rain soundtrack crystal atmosphere brightness-pad goblins echo-drops sci-fi
    sitar banjo shamisen koto kalimba bagpipe violin shanai
    tinkle-bell agogo steel-drums woodblock taiko melodic-tom synth-drum reverse-cymbal
    fret-noise breath-noise seashore bird telephone helicopter applause gunshot
    """.split("\n")
    for name in line.split()
)
