const url = "http://example.com // TODO: not here";
const long = `
// TODO: nor here
`;
/*
 * XXX SHOP-77 rounding
 */
save(); // todo: lower case with a colon
