/**
 * The depth of most searches, whose statements are prepared. A depth is part of the statement's text, so preparing every depth
 * would fill the connections with statements. Other depths work too.
 */
export const PREPARED_DEPTH = 100;
